// Command ociruntime stands in front of runc on hosts whose capability bounding set lacks
// CAP_SYS_RESOURCE, which are themselves sandboxes as a rule. A privileged container asks for every
// capability there is, and runc refuses to start a process with one it cannot give; so the request is
// taken out of the container's configuration before runc reads it.
//
// Called as "ociruntime register FILE" it makes itself the default runtime in Docker's configuration.
// Called in any other way it is runc. Only hack/deps.sh installs it, and only on such hosts.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// missingCapability is what these hosts cannot give, as OCI configurations spell it.
const missingCapability = "CAP_SYS_RESOURCE"

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "ociruntime:", err)
		os.Exit(1)
	}
}

// run does what argv asks for. As a runtime it returns only when runc could not be started.
func run(argv []string) error {
	if len(argv) == 3 && argv[1] == "register" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find my own path: %w", err)
		}
		return register(argv[2], self)
	}
	if err := dropFromConfigs(argv[1:]); err != nil {
		return err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find runc: %w", err)
	}
	if err := syscall.Exec(runc, append([]string{"runc"}, argv[1:]...), os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", runc, err)
	}
	return errors.New("exec returned")
}

// dropFromConfigs rewrites the files a runc command line names: the bundle's config.json that create
// and run read, and the process file that exec reads.
func dropFromConfigs(args []string) error {
	for i := 0; i+1 < len(args); i++ {
		var err error
		switch args[i] {
		case "--bundle":
			err = rewrite(filepath.Join(args[i+1], "config.json"), dropFromSpec)
		case "--process":
			err = rewrite(args[i+1], dropFromProcess)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
