package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// object is a JSON object whose values stay as they were written, so that what this program does not
// know, 64-bit numbers included, passes through it unchanged.
type object map[string]json.RawMessage

// change replaces o[key], decoded into T, by what edit makes of it. An absent key stays absent.
func change[T any](o object, key string, edit func(*T) error) error {
	raw, ok := o[key]
	if !ok {
		return nil
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	if err := edit(&v); err != nil {
		return fmt.Errorf("in %q: %w", key, err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %q: %w", key, err)
	}
	o[key] = raw
	return nil
}

// dropFromSpec edits an OCI runtime configuration.
func dropFromSpec(spec object) error {
	return change(spec, "process", func(p *object) error { return dropFromProcess(*p) })
}

// dropFromProcess edits the process part of an OCI runtime configuration.
func dropFromProcess(process object) error {
	return change(process, "capabilities", func(sets *map[string][]string) error {
		for name, set := range *sets {
			(*sets)[name] = slices.DeleteFunc(set, func(c string) bool { return c == missingCapability })
		}
		return nil
	})
}

// runtimeName is what Docker calls this program.
const runtimeName = "wirelab"

// register makes self the default runtime in Docker's configuration file and keeps all else in it. The
// file need not exist. One that names another default runtime is left alone and is an error.
func register(file, self string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the folder of Docker's configuration: %w", err)
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(file, []byte("{}"), 0o644); err != nil {
			return fmt.Errorf("write Docker's configuration: %w", err)
		}
	}
	return rewrite(file, func(config object) error {
		var name string
		if raw, ok := config["default-runtime"]; ok {
			if err := json.Unmarshal(raw, &name); err != nil {
				return fmt.Errorf("read \"default-runtime\": %w", err)
			}
		}
		if name != "" && name != "runc" && name != runtimeName {
			return fmt.Errorf("default-runtime is %q already: remove that line, or give privileged containers without %s another way", name, missingCapability)
		}
		config["default-runtime"] = json.RawMessage(`"` + runtimeName + `"`)
		if _, ok := config["runtimes"]; !ok {
			config["runtimes"] = json.RawMessage(`{}`)
		}
		return change(config, "runtimes", func(runtimes *object) error {
			entry, err := json.Marshal(map[string]string{"path": self})
			if err != nil {
				return fmt.Errorf("write the runtime's path: %w", err)
			}
			(*runtimes)[runtimeName] = entry
			return nil
		})
	})
}

// rewrite replaces the JSON object in path by what edit makes of it, in one rename, with the same mode.
func rewrite(path string, edit func(object) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read a configuration: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read a configuration: %w", err)
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if o == nil {
		return fmt.Errorf("read %s: it holds null, want an object", path)
	}
	if err := edit(o); err != nil {
		return fmt.Errorf("change %s: %w", path, err)
	}
	data, err = json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	aside := path + ".wirelab"
	if err := os.WriteFile(aside, append(data, '\n'), info.Mode().Perm()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(aside, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(aside))
	}
	return nil
}
