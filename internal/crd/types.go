// Package crd is what wirelab keeps in the API server: the objects of group wirelab.dev, and a client for them. Their
// schemas are in the chart.
//
// It imports nothing else of this module.
package crd

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// LabNode is what others need to know of one node. It has the node's name, and its agent makes it and keeps it. It may
// outlive the Node by some minutes.
type LabNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   LabNodeSpec   `json:"spec"`
	Status LabNodeStatus `json:"status,omitzero"`
}

// LabNodeSpec is where the node and its pods are.
type LabNodeSpec struct {
	// NodeUID is that of the Node whose agent wrote this last: of another one it is what is left of a node that went.
	NodeUID types.UID `json:"nodeUID"`
	// Addresses are the node's internal ones, IPv4, in the order Kubernetes has them.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// PodCIDRs are IPv4; pods get addresses of the first. Empty while the node has none yet.
	PodCIDRs []netip.Prefix `json:"podCIDRs,omitempty"`
}

// LabNodeStatus is what is on the node.
type LabNodeStatus struct {
	// Endpoints are sorted by address.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// EndpointCount is how many there are, for kubectl, which does not count.
	EndpointCount int32 `json:"endpointCount,omitempty"`
	// Problem is why Spec.PodCIDRs is empty, where that is not a matter of a moment. The operator writes it.
	Problem string `json:"problem,omitempty"`
}

// Endpoint is one pod's address.
type Endpoint struct {
	Address netip.Addr `json:"address"`
	// Identity is the number of the pod's label set: the name of a LabIdentity, or a reserved one.
	Identity uint32 `json:"identity"`
	// Pod is namespace/name; empty for what is no pod of Kubernetes, such as the node's health endpoint.
	Pod string `json:"pod,omitempty"`
}

// Annotations that the operator makes. Their values are times (RFC 3339), but for that of Leader.
const (
	// NodeGone says since when there has been no Node of a LabNode's name.
	NodeGone = "wirelab.dev/node-gone-since"
	// Unused says since when no LabNode has had a LabIdentity. It goes when one has it again; else the LabIdentity is
	// deleted, some minutes after agents have stopped to give it to pods.
	Unused = "wirelab.dev/unused-since"
	// Leader is the operator that last marked the LabNode while it had no podCIDR, and the version that it marked: what was
	// decided of that version is refused.
	Leader = "wirelab.dev/operator"
)

// LabNodeList is what the API server lists.
type LabNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []LabNode `json:"items"`
}

// LabIdentity is a number for a set of labels. The number is its name, so that who creates the object has it.
type LabIdentity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec LabIdentitySpec `json:"spec"`
}

// LabIdentitySpec is the set. It never changes.
type LabIdentitySpec struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	// Labels are those of the pods that count; may be nil.
	Labels map[string]string `json:"labels,omitempty"`
}

// LabIdentityList is what the API server lists.
type LabIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []LabIdentity `json:"items"`
}
