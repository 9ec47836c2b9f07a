package field

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// RunService is one Service of a run.
type RunService struct {
	Name     string
	Into     func(*Env) *Service
	selector map[string]string
	// only is set when its one backend is the client pod of the last node;
	// otherwise its backends are all servers, or none where nobody is selected.
	only   bool
	change func(*corev1.ServiceSpec)
}

// RunServices lists the Services of a run.
func RunServices(cfg Config) []RunService {
	servers, only := map[string]string{runLabel: RoleServer}, map[string]string{onlyLabel: "true"}
	all := []RunService{
		{Name: everyService, Into: func(e *Env) *Service { return &e.Every }, selector: servers},
		{Name: oneService, Into: func(e *Env) *Service { return &e.One }, selector: only, only: true},
		{Name: HeadlessService, Into: func(e *Env) *Service { return &e.Headless }, selector: servers, change: func(s *corev1.ServiceSpec) {
			s.Type, s.ClusterIP = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone
		}},
		{Name: StickyService, Into: func(e *Env) *Service { return &e.Sticky }, selector: servers, change: func(s *corev1.ServiceSpec) {
			s.SessionAffinity = corev1.ServiceAffinityClientIP
		}},
		// Only a load balancer's Service has a port for health checks.
		{Name: LocalService, Into: func(e *Env) *Service { return &e.Local }, selector: only, only: true, change: func(s *corev1.ServiceSpec) {
			inside := corev1.ServiceInternalTrafficPolicyLocal
			s.Type, s.ExternalTrafficPolicy, s.InternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, &inside
		}},
		{Name: emptyService, Into: func(e *Env) *Service { return &e.Empty }, selector: map[string]string{runLabel: "nobody"}},
	}
	if cfg.KubeProxyReplacement() {
		all = append(all, RunService{
			Name: changingService, Into: func(e *Env) *Service { return &e.Changing }, selector: map[string]string{changingLabel: "true"}, only: true,
		})
	}
	return all
}

// object is the Service of TCP and UDP with nodePorts, as far as change leaves it so.
func (l RunService) object() *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: l.Name, Namespace: Namespace, Labels: map[string]string{runLabel: "service"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: l.selector,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: ServicePort, TargetPort: intstr.FromInt32(PodPort)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: ServicePort, TargetPort: intstr.FromInt32(PodPort)},
			},
		},
	}
	if l.change != nil {
		l.change(&service.Spec)
	}
	return service
}

// readServices fills in the run's own Services.
func readServices(ctx context.Context, env *Env, only string) error {
	for _, l := range RunServices(env.Config) {
		service, err := readService(ctx, env.Kube, Namespace, l.Name)
		if err != nil {
			return err
		}
		service.Backends = l.Backends(env, only)
		*l.Into(env) = service
	}
	return nil
}

// Backends are the peers behind the Service, in the order of env's nodes; only
// is the node whose client pod is the one backend of Services that have one.
func (l RunService) Backends(env *Env, only string) []Peer {
	var backends []Peer
	for _, node := range env.Nodes {
		switch {
		case l.only && node.Node == only:
			backends = append(backends, node.Client)
		case !l.only && l.selector[runLabel] == RoleServer:
			backends = append(backends, node.Server)
		}
	}
	if l.Name == changingService {
		backends = append(backends, env.Leaver)
	}
	return backends
}
