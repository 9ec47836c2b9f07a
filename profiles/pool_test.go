package profiles

import (
	"fmt"
	"testing"
)

// TestSubnetAndPoolFollowEachOther: the one that is set where it counts more leads.
func TestSubnetAndPoolFollowEachOther(t *testing.T) {
	for _, tc := range []struct {
		set          []string
		subnet, pool string
	}{
		{nil, "10.0.0.0/12", "[10.0.0.0/12]"},
		{[]string{poolKey + "=10.32.0.0/11"}, "10.32.0.0/11", "[10.32.0.0/11]"},
		{[]string{poolKey + "=10.32.0.0/16,10.35.0.0/16"}, "10.32.0.0/14", "[10.32.0.0/16 10.35.0.0/16]"},
		{[]string{poolKey + "=10.32.7.0/24", "network.ipam.operator.clusterPoolIPv4MaskSize=26"}, "10.32.0.0/16", "[10.32.7.0/24]"},
		{[]string{"cluster.podSubnet=10.200.0.0/16"}, "10.200.0.0/16", "[10.200.0.0/16]"},
		{[]string{"cluster.podSubnet=10.200.0.0/16", poolKey + "=10.200.4.0/22"}, "10.200.0.0/16", "[10.200.4.0/22]"},
		{[]string{poolKey + "=[]", "network.ipam.mode=kubernetes"}, "10.244.0.0/16", "[]"},
		{[]string{"network.ipam.mode=kubernetes"}, "10.244.0.0/16", "[10.0.0.0/12]"},
	} {
		p, err := Load("kubeproxy", Options{Set: tc.set})
		if err != nil {
			t.Errorf("%v: %v", tc.set, err)
			continue
		}
		if pool := fmt.Sprint(p.Network.IPAM.Operator.ClusterPoolIPv4PodCIDRList); p.Cluster.PodSubnet.String() != tc.subnet || pool != tc.pool {
			t.Errorf("%v: the pod subnet is %s, the pool %s; want %s, %s", tc.set, p.Cluster.PodSubnet, pool, tc.subnet, tc.pool)
		}
	}
}
