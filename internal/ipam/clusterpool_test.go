package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func clusterPool(t testing.TB, maskSize int, cidrs ...string) *ClusterPool {
	t.Helper()
	p, err := NewClusterPool(prefixes(cidrs...), maskSize)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNextPodCIDR(t *testing.T) {
	for _, tc := range []struct {
		name string
		pool []string
		mask int
		held []string
		want string
	}{
		{"the first", []string{"10.0.0.0/12"}, 24, nil, "10.0.0.0/24"},
		{"behind others", []string{"10.0.0.0/12"}, 24, []string{"10.0.1.0/24", "10.0.0.0/24"}, "10.0.2.0/24"},
		{"between others", []string{"10.0.0.0/12"}, 24, []string{"10.0.0.0/24", "10.0.2.0/24"}, "10.0.1.0/24"},
		{"behind a larger one", []string{"10.0.0.0/12"}, 24, []string{"10.0.0.0/22"}, "10.0.4.0/24"},
		{"behind a smaller one", []string{"10.0.0.0/12"}, 24, []string{"10.0.0.128/26"}, "10.0.1.0/24"},
		{"behind some that overlap", []string{"10.0.0.0/12"}, 24, []string{"10.0.0.0/22", "10.0.1.0/24"}, "10.0.4.0/24"},
		{"beside strangers", []string{"10.0.0.0/12"}, 24, []string{"10.244.0.0/24", "192.0.2.0/24"}, "10.0.0.0/24"},
		{"all of it is held", []string{"10.0.0.0/23", "10.9.0.0/24"}, 24, []string{"10.0.0.0/8"}, ""},
		{"in the second CIDR", []string{"10.0.0.0/23", "10.9.0.0/24"}, 24, []string{"10.0.0.0/24", "10.0.1.0/24"}, "10.9.0.0/24"},
		{"none left", []string{"10.0.0.0/24"}, 24, []string{"10.0.0.0/24"}, ""},
		{"the last", []string{"255.255.254.0/23"}, 24, []string{"255.255.254.0/24"}, "255.255.255.0/24"},
		{"none behind the last", []string{"255.255.255.0/24"}, 24, []string{"255.255.255.0/24"}, ""},
		{"nothing in the pool", nil, 24, nil, ""},
		{"two held twice", []string{"10.0.0.0/22"}, 24, []string{"10.0.0.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.1.0/24"}, "10.0.2.0/24"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := clusterPool(t, tc.mask, tc.pool...).Next(prefixes(tc.held...))
			switch {
			case tc.want == "" && !errors.Is(err, ErrUsedUp):
				t.Errorf("got %s, %v; want that it is used up", got, err)
			case tc.want != "" && (err != nil || got.String() != tc.want):
				t.Errorf("got %s, %v; want %s", got, err, tc.want)
			}
			for _, c := range tc.pool {
				if tc.want == "" && !strings.Contains(err.Error(), c) {
					t.Errorf("%q does not name %s", err, c)
				}
			}
		})
	}
}

func TestClusterPoolRefuses(t *testing.T) {
	for _, tc := range []struct {
		mask  int
		cidrs []string
		want  string
	}{
		{24, []string{"10.0.0.0/25"}, "no /24 in it"},
		{31, []string{"10.0.0.0/8"}, "/30 or larger"},
		{24, []string{"10.0.0.1/8"}, "not an IPv4 CIDR"},
		{24, []string{"fd00::/8"}, "not an IPv4 CIDR"},
		{24, []string{"10.0.0.0/8", "10.9.0.0/16"}, "overlaps 10.0.0.0/8"},
	} {
		if _, err := NewClusterPool(prefixes(tc.cidrs...), tc.mask); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v of /%d: %v, want %q", tc.cidrs, tc.mask, err, tc.want)
		}
	}
}

// FuzzClusterPool has nodes come and go as the input says, and the pool change, and holds that no two nodes overlap, that
// each got the lowest there was, and that used up means used up.
func FuzzClusterPool(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 2, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 5, 0, 3, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		pools := []*ClusterPool{
			clusterPool(t, 26, "10.0.0.0/24"), clusterPool(t, 27, "10.0.0.0/24", "10.0.9.0/26"),
			clusterPool(t, 25, "10.0.0.0/23"), clusterPool(t, 28, "10.0.9.0/26", "10.0.0.0/25"),
		}
		pool, held := pools[0], []netip.Prefix{}
		for i, s := range steps {
			switch {
			case s%4 == 3:
				pool = pools[int(s/4)%len(pools)]
			case s%4 == 2 && len(held) > 0:
				held = slices.Delete(held, int(s/4)%len(held), int(s/4)%len(held)+1)
			default:
				got, err := pool.Next(held)
				if want := bruteNext(pool, held); err != nil && want.IsValid() || err == nil && got != want {
					t.Fatalf("step %d: got %s, %v; want %s of %s beside %v", i, got, err, want, pool, held)
				}
				if err == nil {
					if !pool.Contains(got) {
						t.Fatalf("%s is not of the pool %s", got, pool)
					}
					held = append(held, got)
				}
			}
			for a := range held {
				for b := range a {
					if held[a].Overlaps(held[b]) {
						t.Fatalf("step %d: %s and %s overlap", i, held[a], held[b])
					}
				}
			}
		}
	})
}

// bruteNext tries one podCIDR after the other.
func bruteNext(p *ClusterPool, held []netip.Prefix) netip.Prefix {
	for _, c := range p.cidrs {
		for n := number(c.Addr()); n < number(c.Addr())+size(c.Bits()); n += size(p.maskSize) {
			candidate := netip.PrefixFrom(address(n), p.maskSize)
			if !slices.ContainsFunc(held, candidate.Overlaps) {
				return candidate
			}
		}
	}
	return netip.Prefix{}
}

func TestPoolOfThousandsOfNodes(t *testing.T) {
	p := clusterPool(t, 24, "10.0.0.0/12")
	var held []netip.Prefix
	for i := range 4096 {
		got, err := p.Next(held)
		if want := fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255); err != nil || got.String() != want {
			t.Fatalf("node %d: %s, %v; want %s", i, got, err, want)
		}
		held = append(held, got)
	}
	if got, err := p.Next(held); !errors.Is(err, ErrUsedUp) {
		t.Errorf("node 4097: %s, %v", got, err)
	}
}
