package docker

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// engineHost finds the engine as the docker command does, because kind calls that command and both must
// speak to the same engine. Empty means the default socket. Settings: DOCKER_HOST, then DOCKER_CONTEXT, then
// currentContext of config.json in DOCKER_CONFIG or ~/.docker.
func engineHost(getenv func(string) string) (string, error) {
	if h := getenv("DOCKER_HOST"); h != "" {
		return checkHost(h)
	}
	dir := cmp.Or(getenv("DOCKER_CONFIG"), filepath.Join(getenv("HOME"), ".docker"))
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		var err error
		if name, err = currentContext(dir); err != nil {
			return "", err
		}
	}
	if name == "" || name == "default" {
		return "", nil
	}
	h, err := contextHost(dir, name)
	if err != nil {
		return "", err
	}
	return checkHost(h)
}

func checkHost(h string) (string, error) {
	if strings.HasPrefix(h, "ssh://") {
		return "", fmt.Errorf("docker engine %s is reached over ssh, which a lab cannot use: choose a local engine with DOCKER_HOST", h)
	}
	return h, nil
}

func currentContext(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read docker settings: %w", err)
	}
	var c struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return "", fmt.Errorf("read docker settings %s: %w", filepath.Join(dir, "config.json"), err)
	}
	return c.CurrentContext, nil
}

// contextFile is where a docker context is kept: in a directory named by the hash of its name.
func contextFile(dir, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json")
}

// contextHost reads the address a docker context stores.
func contextHost(dir, name string) (string, error) {
	b, err := os.ReadFile(contextFile(dir, name))
	if err != nil {
		return "", fmt.Errorf("read docker context %q: %w: choose another with DOCKER_CONTEXT", name, err)
	}
	var m struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("read docker context %q: %w", name, err)
	}
	h := m.Endpoints["docker"].Host
	if h == "" {
		return "", fmt.Errorf("docker context %q has no docker address: choose another with DOCKER_CONTEXT", name)
	}
	return h, nil
}
