"""What people enter at the kiosk: keyboards, scanners and card readers."""
