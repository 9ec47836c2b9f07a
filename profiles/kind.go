package profiles

// Target is the kind cluster to make from a profile.
type Target struct {
	// Name is the cluster's; empty: the profile's.
	Name string
	// Image is the node image; empty: cluster.image, and if that is empty too, kind's own.
	Image string
}

// KindConfig is the kind.x-k8s.io/v1alpha4 configuration, in YAML, of the cluster that
// the profile asks for. With registry mirrors its containerd reads
// /etc/containerd/certs.d, whose files are the caller's work.
func (p *Profile) KindConfig(t Target) ([]byte, error) { return nil, nil }
