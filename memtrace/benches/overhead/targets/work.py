"""Works with numpy and with Python's own objects until it is killed, in two threads."""
import json
import re
import threading

import numpy as np


def arrays(generator):
    matrix = generator.normal(size=(60, 60))
    solved = np.linalg.solve(matrix + 60 * np.eye(60), matrix[:, 0])
    spectrum = np.abs(np.fft.rfft(np.concatenate([solved, matrix.ravel()])))
    return np.sort(np.unique(spectrum.round(3)))[::7].tolist()


def objects(values):
    text = json.dumps({f"key {index}": value for index, value in enumerate(values)})
    found = [float(number) for number in re.findall(r"\d+\.\d+", text)]
    return sorted(map(str, found), key=lambda text: (len(text), text))


def work(seed):
    generator = np.random.default_rng(seed)
    while True:
        objects(arrays(generator))


print("ready", flush=True)
threading.Thread(target=work, args=(1,), daemon=True).start()
work(2)
