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
names, longest = json.loads(about["class_names"]), int(about["crop_size"])

image = Image.open(photo).convert("RGB")
scale = longest / max(image.size)
width, height = (max(17, round(side * scale)) for side in image.size)
small = image.resize((width, height), Image.Resampling.BILINEAR)
pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
classes = network(pixels.view(1, height, width, 3))[0]
result = Image.frombytes("L", (width, height), bytes(classes.flatten().tolist()))
result.resize(image.size, Image.Resampling.NEAREST).save(target)
for number in classes.unique().tolist():
    print(names[number] if names else f"class {number}", f"{(classes == number).float().mean():.1%}")
