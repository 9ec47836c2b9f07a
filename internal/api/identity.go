package api

// Identity is a number that the node knows, and whose it is.
type Identity struct {
	ID uint32 `json:"id"`
	// Name is that of a number which is reserved, as world. The others are of
	// pods, which have in common what follows.
	Name           string            `json:"name,omitempty"`
	Namespace      string            `json:"namespace,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	// Retired says that no pod gets it any more: it is about to be deleted.
	Retired bool `json:"retired,omitempty"`
	// Pods are those of the node that have it, as namespace/name, sorted.
	Pods []string `json:"pods"`
}

// LabeledEndpoint is an endpoint with the labels that its identity stands for.
type LabeledEndpoint struct {
	Endpoint
	Labels map[string]string `json:"labels,omitempty"`
}
