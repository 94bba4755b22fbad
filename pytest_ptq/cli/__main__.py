from pytest_ptq.cli.app import main

raise SystemExit(main())
