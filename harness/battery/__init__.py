"""The battery: every promise of an image, tried from outside, for any contract. docs/battery.md has the table."""
