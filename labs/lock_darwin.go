package labs

import (
	"os"
	"path/filepath"
)

// take takes a lock by its name, or returns [ErrBusy]. It is a file of the user's, as is the virtual machine with the engine: each
// user has locks of their own.
func take(name string) (unlock func(), err error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return takeFile(filepath.Join(caches, "wirelab", "locks"), name)
}

// holder says who holds a lock: of a file, the kernel does not tell.
func holder(string) string { return "" }
