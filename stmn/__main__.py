"""`python -m stmn`, and `torchrun ... -m stmn`."""

from stmn.cli.main import main

if __name__ == "__main__":
    main()
