package kube

import (
	"errors"
	"testing"
)

// What a container runtime said of commands that it could not start.
func TestNotBegun(t *testing.T) {
	const failed = `error executing command in container: failed to exec in container: failed to start exec "f4b98f": OCI runtime exec failed: exec failed: unable to start container process: `
	for why, want := range map[string]bool{
		failed + "waiting for init preliminary setup: read init-p: connection reset by peer":        true,
		failed + `exec: "no-such": executable file not found in $PATH`:                              false,
		failed + `exec: "/etc/passwd": permission denied`:                                           false,
		`container not found ("agent")`:                                                             false,
		"unable to upgrade connection: read init-p: this is in the name of a pod, and nothing else": false,
	} {
		if got := notBegun(errors.New(why)); got != want {
			t.Errorf("%v of %q", got, why)
		}
	}
	if notBegun(nil) {
		t.Error("no error is one")
	}
}
