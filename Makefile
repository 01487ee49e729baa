# The same as the scripts; make is not needed for anything.
.PHONY: demo test setup lock reference
demo:
	scripts/demo
test:
	scripts/test
setup:
	scripts/setup
lock:
	scripts/lock
reference:
	scripts/reference
