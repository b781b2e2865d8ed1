"""The demo's Serve applications: ocr reads pictures, echo says back what it is told."""
