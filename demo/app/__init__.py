"""The demo's Serve applications: ocr reads pictures, echo returns its input."""
