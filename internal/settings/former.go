package settings

// Former has keys of a network that older walkthroughs print, by their names, and for each of their values what says the same
// today.
var Former = map[string]map[string]string{
	"tunnel": {
		TunnelVXLAN: "routingMode tunnel and tunnelProtocol vxlan", TunnelGeneve: "routingMode tunnel and tunnelProtocol geneve", "disabled": "routingMode native",
	},
}

// InsteadOf says what stands today for a former key of a network with a value that it had; empty when it is none.
func InsteadOf(name, value string) string {
	now, ok := Former[name][value]
	if !ok {
		return ""
	}
	return "is an older word: " + name + " " + value + " is " + now + " today; write that"
}
