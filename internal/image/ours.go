package image

import "io/fs"

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
	return build(payload, arch, AgentRepository, nil, []string{"wirelab-agent", "wirelab-cni"})
}

// Operator is the image of the operator, by itself: every node has the agent's image, and most never run an operator.
// payload, arch and errors are as for [Agent].
func Operator(payload fs.FS, arch string) (*Image, error) {
	return build(payload, arch, OperatorRepository, nil, []string{"wirelab-operator"})
}

// Relay is the image of the relay, by itself: it links the flow API's packages, which no node is to carry without it. payload,
// arch and errors are as for [Agent].
func Relay(payload fs.FS, arch string) (*Image, error) {
	return build(payload, arch, RelayRepository, nil, []string{"wirelab-relay"})
}

// Nettool is the image of the demo workload: nettool on top of a small system with the tools a walkthrough types.
// Started without arguments it serves. payload, arch and errors are as for [Agent].
func Nettool(payload fs.FS, arch string) (*Image, error) {
	tools, err := readPayload(payload, "demo-tools.tar.zst")
	if err != nil {
		return nil, err
	}
	return build(payload, arch, NettoolRepository, [][]byte{tools}, []string{"nettool"}, "serve")
}
