package lb

// Reasons why something is left out, each in a word.
const (
	// NotCarried is what this data plane does not support: SCTP, IPv6.
	NotCarried = "NotCarried"
	// NotValid contradicts itself, or means nothing.
	NotValid = "NotValid"
	// Duplicate is there already, under the same name.
	Duplicate = "Duplicate"
	// AddressTaken says that another has the address and port.
	AddressTaken = "AddressTaken"
	// NotNodeAddress says that a host port's address is none of the node's.
	NotNodeAddress = "NotNodeAddress"
	// NoRoom says that the node's tables are full.
	NoRoom = "NoRoom"
)
