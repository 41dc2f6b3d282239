"""MindRecord files as MindSpore lays them out, of any size, for tests."""

import json
import struct
from pathlib import Path

import msgpack


def write_mindrecord(path, rows, shards=1, header_size=4096, page_size=1 << 16, change=None):
    """Write ``rows``, (file name, image bytes, label bytes) each, as ``path`` or, of several files, ``path0``, ....

    ``change``: called with each file's header (a dict) before it is written.
    """
    path = Path(path)
    names = [path.name] if shards == 1 else [f"{path.name}{i}" for i in range(shards)]
    for number, name in enumerate(names):
        pages, payloads = _pages(rows[number::shards], number, page_size)
        header = {
            **{"header_size": header_size, "page_size": page_size, "version": "3.0", "compression_size": 0},
            **{"shard_id": number, "shard_addresses": names, "page": pages},
            "schema": [
                {
                    "blob_fields": ["data", "label"],
                    "schema": {"file_name": {"type": "string"}, "data": {"type": "bytes"}, "label": {"type": "bytes"}},
                }
            ],
        }
        if change is not None:
            change(header)
        encoded = json.dumps(header).encode()
        content = (struct.pack("<Q", len(encoded)) + encoded).ljust(header_size, b"\0")
        content += b"".join(payload.ljust(page_size, b"\0") for payload in payloads[:-1]) + payloads[-1]
        path.with_name(name).write_bytes(content)
    return path.with_name(names[0])


def _pages(rows, shard, page_size):
    """Cut rows into blob pages and, after each, a raw page of the same rows."""
    pages, payloads, first = [], [], 0
    blob, raw, count = b"", b"", 0

    def close():
        for kind, payload, last in (("BLOB_DATA", blob, first + count), ("RAW_DATA", raw, 0)):
            start = first if kind == "BLOB_DATA" else 0
            numbers = {"page_id": len(pages), "page_type_id": sum(page["page_type"] == kind for page in pages)}
            rows_in = {"start_row_id": start, "end_row_id": last}
            pages.append({**numbers, **rows_in, "page_type": kind, "page_size": len(payload), "shard_id": shard})
            payloads.append(payload)

    for name, image, label in rows:
        fields = struct.pack(">Q", len(image)) + image + struct.pack(">Q", len(label)) + label
        packed = msgpack.packb({"file_name": name})
        if count and len(blob) + len(fields) + 8 > page_size:
            close()
            first, blob, raw, count = first + count, b"", b"", 0
        blob += struct.pack("<Q", len(fields)) + fields
        raw += struct.pack("<Q", len(packed)) + packed
        count += 1
    close()
    return pages, payloads
