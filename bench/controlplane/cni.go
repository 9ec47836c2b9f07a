package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// call runs the CNI plugin as a container runtime does and returns how long that took, from its start to its
// end.
func (n *node) call(command, container string, netns int) (time.Duration, error) {
	conf, err := n.pluginConf()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(n.spec.Config.Paths.CNIBinDir, "wirelab-cni"))
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0", "CNI_PATH=" + n.spec.Config.Paths.CNIBinDir,
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), netns),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=" + container,
	}
	cmd.Stdin = bytes.NewReader(conf)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	var took time.Duration
	err = n.host.Do(func() error {
		start := time.Now()
		err := cmd.Run()
		took = time.Since(start)
		return err
	})
	if err != nil {
		return took, fmt.Errorf("CNI %s of %s: %w: %s", command, container, err, strings.TrimSpace(out.String()+words.String()))
	}
	return took, nil
}

// pluginConf is what a runtime makes for one plugin of the list that the agent has written.
func (n *node) pluginConf() ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(n.spec.Config.Paths.CNIConfDir, "*.conflist"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("there is no CNI configuration in %s", n.spec.Config.Paths.CNIConfDir)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, fmt.Errorf("read the CNI configuration: %w", err)
	}
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Plugins) == 0 {
		return nil, fmt.Errorf("read the CNI configuration: %w", err)
	}
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	return json.Marshal(conf)
}
