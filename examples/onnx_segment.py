"""Segment an image with an ONNX file, without deeplab_fast: python onnx_segment.py model.onnx photo.jpg classes.png

The file is one of ``export --format=onnx --input_kind=uint8 --output_kind=classes``.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photo, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
names, longest = json.loads(about["class_names"]), int(about["crop_size"])

image = Image.open(photo).convert("RGB")
scale = longest / max(image.size)
small = image.resize([max(17, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
(classes,) = session.run(None, {"image": np.asarray(small)[None]})
Image.fromarray(classes[0]).resize(image.size, Image.Resampling.NEAREST).save(target)
for number in np.unique(classes):
    print(names[number] if names else f"class {number}", f"{(classes == number).mean():.1%}")
