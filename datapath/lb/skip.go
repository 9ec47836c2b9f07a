package lb

import (
	"cmp"
	"fmt"
)

// SkipReason says in a word why something is not carried.
type SkipReason string

const (
	// NotCarried is what this data plane does not do: SCTP, IPv6.
	NotCarried SkipReason = "NotCarried"
	// NotValid contradicts itself, or means nothing.
	NotValid SkipReason = "NotValid"
	// Duplicate is there already, under the same name.
	Duplicate SkipReason = "Duplicate"
	// AddressTaken says that another has the address and port.
	AddressTaken SkipReason = "AddressTaken"
	// NotNodeAddress says that a host port's address is none of the node's.
	NotNodeAddress SkipReason = "NotNodeAddress"
	// NoRoom says that the node's tables are full.
	NoRoom SkipReason = "NoRoom"
)

// SkippedKind is a kind of [Skipped].
type SkippedKind string

const (
	SkippedService  SkippedKind = "Service"
	SkippedHostPort SkippedKind = "HostPort"
)

// Skipped is a Service's port, a part of one, or a host port that the node leaves out. All others are carried
// as if it were not there.
type Skipped struct {
	Kind SkippedKind
	// Namespace and Name are the Service's, or the pod's that wants the host port.
	Namespace, Name string
	Reason          SkipReason
	// Message says what is left out and why, in half a sentence.
	Message string
}

func (s Skipped) String() string {
	return fmt.Sprintf("%s %s/%s: %s", s.Kind, s.Namespace, s.Name, s.Message)
}

// Compare orders them by what they are about.
func (s Skipped) Compare(o Skipped) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Namespace, o.Namespace), cmp.Compare(s.Name, o.Name),
		cmp.Compare(s.Reason, o.Reason), cmp.Compare(s.Message, o.Message))
}
