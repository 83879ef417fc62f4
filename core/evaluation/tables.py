"""Tables of results, as text that is Markdown as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# metric -> heading with its unit and which way is better, digits
COLUMNS = {
    "psnr": ("PSNR, dB ↑", 2),
    "ssim": ("SSIM ↑", 3),
    "lpips": ("LPIPS ↓", 3),
    "iou": ("alpha IoU ↑", 3),
    "clip": ("CLIP ↑", 3),
    "flicker": ("flicker, 1/255 ↓", 2),
    "flicker_worst": ("worst pair ↓", 2),
    "warp": ("warped error, 1/255 ↓", 2),
    "psnr_first": ("PSNR, first chunk, dB ↑", 2),
    "psnr_last": ("PSNR, last chunk, dB ↑", 2),
    "psnr_lost": ("lost, dB ↓", 2),
    "fvd": ("FVD ↓", 1),
    "fvd_single": ("FVD, single videos ↓", 1),
}


def summary_table(summary: Mapping[str, Mapping[str, object]], key: str) -> str:
    """Systems down, metrics across, for the objects of one set (``all`` or ``moving``)."""
    systems = summary[key]["systems"]
    metrics = [metric for metric in COLUMNS if any(metric in means for means in systems.values())]
    header = [f"{key}: {summary[key]['objects']} objects", *(COLUMNS[metric][0] for metric in metrics)]
    rows = [
        [name, *(number(means.get(metric), COLUMNS[metric][1]) for metric in metrics)]
        for name, means in systems.items()
    ]
    return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, digits: int) -> str:
    """With so many digits after the point; nothing for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
