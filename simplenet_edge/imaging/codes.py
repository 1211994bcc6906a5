"""QR codes and barcodes in an image uint8 `(H, W, 3)` BGR, by OpenCV's detectors."""

from __future__ import annotations

import cv2

from simplenet_edge.spec import Frames

__all__ = ["read_code"]


def read_code(image: Frames) -> str | None:
    """The text of a QR code, or where there is none of a barcode (EAN, UPC); None where neither can be read."""
    text = cv2.QRCodeDetector().detectAndDecode(image)[0]
    if not text and hasattr(cv2, "barcode"):  # OpenCV before 4.8 has it among the contributed modules only
        detected = cv2.barcode.BarcodeDetector().detectAndDecode(image)
        text = next((found for found in detected if isinstance(found, str)), "")
    return text or None
