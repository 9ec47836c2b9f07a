package field

// Pair is a way from one pod to another.
type Pair struct{ From, To Peer }

func (p Pair) String() string { return p.From.Name + " -> " + p.To.Name }

// SameNode lists each node's two pods, both ways.
func (e *Env) SameNode() []Pair {
	var pairs []Pair
	for _, n := range e.Nodes {
		pairs = append(pairs, Pair{n.Client, n.Server}, Pair{n.Server, n.Client})
	}
	return pairs
}

// AcrossNodes lists a pair of pods for every ordered pair of nodes. A lab of
// one node has none.
func (e *Env) AcrossNodes() []Pair {
	var pairs []Pair
	for _, from := range e.Nodes {
		for _, to := range e.Nodes {
			if from != to {
				pairs = append(pairs, Pair{from.Client, to.Server})
			}
		}
	}
	return pairs
}

// PairsOfBoth lists a pair on every node and one for every ordered pair of nodes.
func (e *Env) PairsOfBoth() []Pair {
	var pairs []Pair
	for _, n := range e.Nodes {
		pairs = append(pairs, Pair{n.Client, n.Server})
	}
	return append(pairs, e.AcrossNodes()...)
}
