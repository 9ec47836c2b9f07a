package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// adminConfig is where kubeadm puts a kubeconfig on control planes, apiPort where their API server listens.
const (
	adminConfig = "/etc/kubernetes/admin.conf"
	apiPort     = 6443
)

// ContextName is the name of a cluster's context in a kubeconfig, and of its cluster and user there, as kind has it.
func ContextName(cluster string) string { return "kind-" + cluster }

// KubeConfig is the kubeconfig to reach a cluster from this machine. Its context, cluster and user have the name
// [ContextName].
func (c *Clusters) KubeConfig(ctx context.Context, name string) ([]byte, error) {
	cl, err := c.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	if cl == nil {
		return nil, fmt.Errorf("read kubeconfig of lab %q: its nodes are gone", name)
	}
	b, err := cl.kubeConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of lab %q: %w", name, err)
	}
	return b, nil
}

func (cl *Cluster) kubeConfig(ctx context.Context) ([]byte, error) {
	at, err := cl.endpoint()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, n := range cl.Nodes {
		if n.Role != RoleControlPlane {
			continue
		}
		b, err := n.engine.ReadFile(ctx, n.Name, adminConfig)
		if err == nil {
			return rename(b, ContextName(cl.Name), "https://"+at.String())
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// endpoint is where the API server is reached: by way of the load balancer where there is one.
func (cl *Cluster) endpoint() (netip.AddrPort, error) {
	var found netip.AddrPort
	for _, n := range cl.Nodes {
		if at, ok := n.published[apiPort]; ok && (!found.IsValid() || n.Role == RoleLoadBalancer) {
			found = at
		}
	}
	if !found.IsValid() {
		return found, errors.New("no running node has the API server's port")
	}
	if found.Addr().IsUnspecified() {
		found = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), found.Port())
	}
	return found, nil
}

// rename gives kubeadm's kubeconfig one name for everything and the address from outside.
func rename(admin []byte, name, server string) ([]byte, error) {
	in, err := clientcmd.Load(admin)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", adminConfig, err)
	}
	current := in.Contexts[in.CurrentContext]
	if current == nil || in.Clusters[current.Cluster] == nil || in.AuthInfos[current.AuthInfo] == nil {
		return nil, fmt.Errorf("%s has no current context", adminConfig)
	}
	cluster := in.Clusters[current.Cluster]
	cluster.Server = server
	out := api.NewConfig()
	out.Clusters[name], out.AuthInfos[name] = cluster, in.AuthInfos[current.AuthInfo]
	out.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	out.CurrentContext = name
	return clientcmd.Write(*out)
}
