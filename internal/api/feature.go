package api

// Feature is something that networks of this kind are known to do, by the name it is known by.
type Feature struct {
	Name  string `json:"name"`
	State string `json:"state"`           // FeatureOn | FeatureOff | FeatureNone
	Value string `json:"value,omitempty"` // of one that is on, how it is done
	// Needs is what it takes, beside what every node has.
	Needs string `json:"needs,omitempty"`
	// Kernel is what this kernel has of the parts that it takes, as far as it was asked.
	Kernel string `json:"kernel,omitempty"`
}

// States of a Feature.
const (
	FeatureOn   = "on"
	FeatureOff  = "off"
	FeatureNone = "not implemented"
)
