"""Segment an image with a file of torch.export or AOTInductor, without deeplab_fast, by torch and Pillow:
python pt2_segment.py model.pt2 photo.jpg classes.png

The file is one of ``export --format=pt2`` or ``--format=aoti`` with ``--input_kind=uint8 --output_kind=classes``.
"""

import json
import sys
import zipfile

import torch
from PIL import Image

model, photo, target = sys.argv[1:]
if any(name.endswith(".so") for name in zipfile.ZipFile(model).namelist()):
    network = torch._inductor.aoti_load_package(model)
    about = network.get_metadata()
else:
    extra = {"deeplab_fast.json": ""}
    network = torch.export.load(model, extra_files=extra).module()
    about = json.loads(extra["deeplab_fast.json"])
if (about["input_kind"], about["output_kind"]) != ("uint8", "classes"):
    sys.exit(f"{model}: expected a file of export --input_kind=uint8 --output_kind=classes")
names, side = json.loads(about["class_names"]), int(about["crop_size"])

image = Image.open(photo).convert("RGB")
width, height = (max(1, round(n * side / max(image.size))) for n in image.size)
square = Image.new("RGB", (side, side), tuple(round(mean) for mean in json.loads(about["mean_rgb"])))
square.paste(image.resize((width, height), Image.Resampling.BILINEAR))
pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
classes = network(pixels.view(1, side, side, 3))[0, :height, :width]
result = Image.frombytes("L", (width, height), bytes(classes.flatten().tolist()))
result.resize(image.size, Image.Resampling.NEAREST).save(target)
for number in classes.unique().tolist():
    print(names[number] if names else f"class {number}", f"{(classes == number).float().mean():.1%}")
