"""A guest: a kernel booted on the machine's own files, only for what the machine's own kernel can't do."""
