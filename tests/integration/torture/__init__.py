"""Random faults on real servers, and a judge (README.md)."""
