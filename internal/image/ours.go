package image

import (
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Repositories of the images lab writes. They name no registry: nodes have them loaded and never pull them.
const (
	AgentRepository    = "wirelab/agent"
	OperatorRepository = "wirelab/operator"
	RelayRepository    = "wirelab/relay"
	NettoolRepository  = "wirelab/nettool"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Agent is the image of the node agent, which also holds the CNI plugin it installs. payload is
// images.Payload, or one like it, whose programs are for linux on arch, as Go names it. The error wraps [ErrNoPayload] when there
// are no programs.
func Agent(payload fs.FS, arch string) (*Image, error) {
	cfg := v1.Config{Entrypoint: []string{"/usr/bin/wirelab-agent"}, Env: []string{searchPath}}
	return build(payload, arch, AgentRepository, cfg, nil, []file{
		{"wirelab-agent", "/usr/bin/wirelab-agent"},
		{"wirelab-cni", "/usr/bin/wirelab-cni"},
	})
}

// Operator is the image of the operator, by itself: every node has the agent's image, and most never run an operator.
// payload, arch and errors are as for [Agent].
func Operator(payload fs.FS, arch string) (*Image, error) {
	cfg := v1.Config{Entrypoint: []string{"/usr/bin/wirelab-operator"}, Env: []string{searchPath}}
	return build(payload, arch, OperatorRepository, cfg, nil, []file{{"wirelab-operator", "/usr/bin/wirelab-operator"}})
}

// Relay is the image of the relay, by itself: it links the flow API's packages, which no node is to carry without it. payload,
// arch and errors are as for [Agent].
func Relay(payload fs.FS, arch string) (*Image, error) {
	cfg := v1.Config{Entrypoint: []string{"/usr/bin/wirelab-relay"}, Env: []string{searchPath}}
	return build(payload, arch, RelayRepository, cfg, nil, []file{{"wirelab-relay", "/usr/bin/wirelab-relay"}})
}

// Nettool is the image of the demo workload: nettool on top of a small system with the tools a walkthrough types.
// Started without arguments it serves. payload, arch and errors are as for [Agent].
func Nettool(payload fs.FS, arch string) (*Image, error) {
	tools, err := readPayload(payload, "demo-tools.tar.zst")
	if err != nil {
		return nil, err
	}
	cfg := v1.Config{Entrypoint: []string{"/usr/bin/nettool"}, Cmd: []string{"serve"}, Env: []string{searchPath}}
	return build(payload, arch, NettoolRepository, cfg, [][]byte{tools}, []file{{"nettool", "/usr/bin/nettool"}})
}
