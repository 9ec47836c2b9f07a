package api

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMACIsText(t *testing.T) {
	want := Endpoint{HostMAC: MAC{0x02, 0, 0x5e, 0x10, 0, 0x01}, PodMAC: MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	text, err := json.Marshal(want)
	if err != nil || !strings.Contains(string(text), `"hostMAC":"02:00:5e:10:00:01"`) {
		t.Fatalf("it is written as %s, %v", text, err)
	}
	var got Endpoint
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "02:00", "02:00:5e:10:00:01:02:03", "nobody"} {
		if err := new(MAC).UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, want it refused by name", bad, err)
		}
	}
}
