// Elements are made of tags and texts, never of markup: names come from the target.

const $ = (id) => document.getElementById(id);

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(clean(child)));
  }
  return element;
}

const el = (tag, attributes, ...children) =>
  build(document.createElement(tag), attributes, children);

const svg = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const fill = (element, ...children) => {
  element.replaceChildren();
  return build(element, null, children);
};

const head = (id, text) => el("h2", { id: id + "-head" }, text);

// A bar of parts: [colour, bytes, title].
const meter = (parts, whole, width) =>
  el(
    "span",
    { class: "meter", "aria-hidden": "true", style: width && { width } },
    parts
      .filter(([, part]) => part > 0)
      .map(([colour, part, title]) =>
        el("i", { title, style: { background: colour, width: (part * 100) / whole + "%" } }),
      ),
  );

const swatch = (colour) => el("span", { class: "swatch", style: { background: colour } });

// What a colour of the style sheet is in the present theme, for the canvas.
function colourOf(name) {
  const probe = el("span", { style: { color: `var(--${name})` } });
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

const tip = {
  show(x, y, title, lines) {
    const box = $("tip");
    fill(
      box,
      el("strong", null, shortened(title, 400)),
      lines.filter(Boolean).map((line) => el("span", null, line)),
    );
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const left = Math.max(4, Math.min(x + 14, innerWidth - width - 8));
    const top = y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18;
    Object.assign(box.style, { left: left + "px", top: top + "px" });
  },
  hide() {
    $("tip").hidden = true;
  },
};
