package main

import "syscall"

// endWithParent has a command told to end when the thread that started it does: when lab is killed.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
