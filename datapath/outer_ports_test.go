package datapath

import "testing"

func TestMasqueradePorts(t *testing.T) {
	row := func(low, high, step int) (ports []uint16) {
		for p := low; p <= high; p += step {
			ports = append(ports, uint16(p))
		}
		return ports
	}
	for name, test := range map[string]struct {
		used []uint16
		want string
	}{
		"no frontends":                {nil, "32768-49151"},
		"usual NodePorts":             {row(30000, 32767, 1), "32768-49151"},
		"one inside":                  {[]uint16{80, 40000, 50000}, "40001-49151"},
		"the first and the last":      {[]uint16{32768, 49151}, "32769-49150"},
		"NodePorts all over":          {row(30000, 60000, 7), "1024-29999"},
		"NodePorts with room between": {row(32768, 65000, 5000), "32769-37767"},
		"well-known ones beside":      {append([]uint16{443, 8080}, row(20000, 60000, 3)...), "8081-19999"},
		"every port":                  {row(1, 65535, 1), "32768-49151"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := masqueradePorts(test.used); got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
