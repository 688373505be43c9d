"""What memray recorded at its high-water mark, by line, as JSON: memray_lines.py RECORD."""

import collections
import json
import sys

import memray

totals = collections.defaultdict(lambda: [0, 0])
for record in memray.FileReader(sys.argv[1]).get_high_watermark_allocation_records():
    stack = record.stack_trace(max_stacks=1)
    if stack:
        total = totals[stack[0]]
        total[0] += record.size
        total[1] += record.n_allocations

lines = [
    {"function": function, "file": file, "line": line,
     "survivors": {"bytes": size, "count": count}}
    for (function, file, line), (size, count) in totals.items()
]
print(json.dumps(sorted(lines, key=lambda line: -line["survivors"]["bytes"])))
