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
if (about["input_kind"], about["output_kind"]) != ("uint8", "classes"):
    sys.exit(f"{model}: expected a file of export --input_kind=uint8 --output_kind=classes")
names, side = json.loads(about["class_names"]), int(about["crop_size"])

image = Image.open(photo).convert("RGB")
width, height = (max(1, round(n * side / max(image.size))) for n in image.size)
square = Image.new("RGB", (side, side), tuple(round(mean) for mean in json.loads(about["mean_rgb"])))
square.paste(image.resize((width, height), Image.Resampling.BILINEAR))
(found,) = session.run(None, {"image": np.asarray(square)[None]})
classes = found[0, :height, :width]
Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST).save(target)
for number in np.unique(classes):
    print(names[number] if names else f"class {number}", f"{(classes == number).mean():.1%}")
