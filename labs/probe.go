package labs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"

	"wirelab.dev/wirelab/images"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/verify/probe"
)

// probeWithin sends a probe from the network namespace of a container of the node, by its ID as its runtime has it, or, where it
// is empty, from the node's. An error means that it could not be sent.
func probeWithin(ctx context.Context, n cluster.Node, container string, request probe.Request) (reply probe.Reply, err error) {
	if err := request.Check(); err != nil {
		return reply, err
	}
	nettool, err := ensureNettool(ctx, n)
	if err != nil {
		return reply, fmt.Errorf("put nettool on node %s: %w", n.Name, err)
	}
	line, err := json.Marshal(request)
	if err != nil {
		return reply, fmt.Errorf("write a probe: %w", err)
	}
	cmd := []string{nettool, "probe", "batch"}
	if container != "" {
		cmd = append(cmd, "--container", container)
	}
	said, err := n.Run(ctx, bytes.NewReader(line), cmd...)
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(said, &reply); err != nil {
		return reply, fmt.Errorf("read nettool's reply: %w", err)
	}
	return reply, nil
}

// nettoolOnNode begins the name of nettool on a node. Its folder is there in every node image and is no tmpfs, which could
// forbid execution.
const nettoolOnNode = "/usr/local/bin/wirelab-nettool-"

// ensureNettool returns where nettool is on a node. The first probe puts it there, where it stays as long as the node
// does, or until another version comes in its place: its name has a hash of what it is.
func ensureNettool(ctx context.Context, n cluster.Node) (at string, err error) {
	binary, err := nettoolBinary()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(binary)
	at = fmt.Sprintf("%s%x", nettoolOnNode, sum[:6])
	if there, err := n.Engine().HasFile(ctx, n.Name, at); err != nil || there {
		return at, err
	}
	aside := at + "." + rand.Text()
	if err := n.Engine().WriteFile(ctx, n.Name, aside, 0o755, binary); err != nil {
		return "", err
	}
	_, err = n.Run(ctx, nil, "sh", "-c", replaceScript(aside, at))
	return at, err
}

// replaceScript makes the program aside the one at at, whole, as another command may be putting it there too, and removes
// those of other versions. The younger ones are left: other commands may be about to run them, or may be writing them.
func replaceScript(aside, at string) string {
	return fmt.Sprintf("mv %s %s && find %s -maxdepth 1 -name '%s*' ! -name %s -mmin +60 -delete",
		aside, at, path.Dir(at), path.Base(nettoolOnNode), path.Base(at))
}

// nettoolBinary is the static binary that probes, the one in the nettool image. The error wraps [image.ErrNoPayload].
func nettoolBinary() ([]byte, error) { return image.Program(images.Payload, "nettool") }
