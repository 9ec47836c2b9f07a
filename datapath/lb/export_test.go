package lb

// What tests outside the package use of those inside.
var (
	Apply            = apply
	ChangeTo         = changeTo
	CompareWithFresh = compareWithFresh
)

// NewInMemory is a balancer with maps that have room.
func NewInMemory() *Balancer { return New(memoryMaps(roomy)) }

// Laid is another one each time everything has been planned anew.
func (b *Balancer) Laid() any { return b.laid }
