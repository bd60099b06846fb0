"""What every other package uses: errors, processes, deadlines, transports, machines."""
