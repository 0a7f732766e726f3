"""`python -m speed_bench.cli`."""

from speed_bench.cli import main

if __name__ == "__main__":
    main()
