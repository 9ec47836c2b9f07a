//go:build !race

package agent

// underRace is set where the race detector is at work, which takes several times the memory of what it watches.
const underRace = false
