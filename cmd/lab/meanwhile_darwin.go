package main

import "syscall"

// endWithParent does nothing: macOS tells nobody that a parent has died, so a command goes on where lab is killed.
func endWithParent(*syscall.SysProcAttr) {}
