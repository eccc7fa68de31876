"""What a user would write to serve an ONNX file: no checks, no log, nothing that is not needed."""

import json
import os

import numpy as np
import onnxruntime


def init():
    global session
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["GRAPH"], options)


def run(body):
    (probabilities,) = session.run(["probabilities"], {"rows": np.array(json.loads(body)["data"], dtype="float64")})
    return {"predictions": probabilities.argmax(axis=1).tolist(), "probabilities": probabilities.tolist()}
