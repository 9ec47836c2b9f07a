package cluster

import "context"

// profileFile is on the first control plane. Like [completeFile] it survives restarts.
const profileFile = "/kind/wirelab-profile.yaml"

// SetProfile writes down the profile in force, in a form of the caller's, for who asks Docker alone. Labels cannot say it:
// they stay what they were when the nodes were made.
func (c *Cluster) SetProfile(ctx context.Context, content []byte) error {
	cp, ok := c.ControlPlane()
	if !ok {
		return nil
	}
	return cp.engine.WriteFile(ctx, cp.Name, profileFile, 0o644, content)
}

// Profile is what SetProfile wrote last; nil when it never did. The nodes need not run.
func (c *Cluster) Profile(ctx context.Context) ([]byte, error) {
	return c.readFile(ctx, profileFile)
}

// readFile reads a file of the first control plane; nil where it is not there.
func (c *Cluster) readFile(ctx context.Context, file string) ([]byte, error) {
	cp, ok := c.ControlPlane()
	if !ok {
		return nil, nil
	}
	there, err := cp.engine.HasFile(ctx, cp.Name, file)
	if err != nil || !there {
		return nil, err
	}
	return cp.engine.ReadFile(ctx, cp.Name, file)
}
