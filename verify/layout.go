package verify

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// layout is one Service of a run.
type layout struct {
	name     string
	into     func(*Env) *Service
	selector map[string]string
	// only is set when its one backend is the client pod of the last node;
	// otherwise its backends are all servers, or none where nobody is selected.
	only   bool
	change func(*corev1.ServiceSpec)
}

// layouts lists the Services of a run.
func layouts(cfg Config) []layout {
	servers, only := map[string]string{runLabel: roleServer}, map[string]string{onlyLabel: "true"}
	all := []layout{
		{name: everyService, into: func(e *Env) *Service { return &e.Every }, selector: servers},
		{name: oneService, into: func(e *Env) *Service { return &e.One }, selector: only, only: true},
		{name: headlessService, into: func(e *Env) *Service { return &e.Headless }, selector: servers, change: func(s *corev1.ServiceSpec) {
			s.Type, s.ClusterIP = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone
		}},
		{name: stickyService, into: func(e *Env) *Service { return &e.Sticky }, selector: servers, change: func(s *corev1.ServiceSpec) {
			s.SessionAffinity = corev1.ServiceAffinityClientIP
		}},
		// Only a load balancer's Service has a port for health checks.
		{name: localService, into: func(e *Env) *Service { return &e.Local }, selector: only, only: true, change: func(s *corev1.ServiceSpec) {
			inside := corev1.ServiceInternalTrafficPolicyLocal
			s.Type, s.ExternalTrafficPolicy, s.InternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, &inside
		}},
		{name: emptyService, into: func(e *Env) *Service { return &e.Empty }, selector: map[string]string{runLabel: "nobody"}},
	}
	if cfg.replaced() {
		all = append(all, layout{
			name: changingService, into: func(e *Env) *Service { return &e.Changing }, selector: map[string]string{changingLabel: "true"}, only: true,
		})
	}
	return all
}

// object is the Service of TCP and UDP with nodePorts, as far as change leaves it so.
func (l layout) object() *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: l.name, Namespace: Namespace, Labels: map[string]string{runLabel: "service"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: l.selector,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: servicePort, TargetPort: intstr.FromInt32(podPort)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: servicePort, TargetPort: intstr.FromInt32(podPort)},
			},
		},
	}
	if l.change != nil {
		l.change(&service.Spec)
	}
	return service
}

func serviceObjects(cfg Config) []*corev1.Service {
	var all []*corev1.Service
	for _, l := range layouts(cfg) {
		all = append(all, l.object())
	}
	return all
}

// readServices fills in the run's own Services.
func readServices(ctx context.Context, env *Env, only string) error {
	for _, l := range layouts(env.Config) {
		service, err := readService(ctx, env.Kube, Namespace, l.name)
		if err != nil {
			return err
		}
		service.Backends = l.backends(env, only)
		*l.into(env) = service
	}
	return nil
}

func (l layout) backends(env *Env, only string) []Host {
	var backends []Host
	for _, node := range env.Nodes {
		switch {
		case l.only && node.Node == only:
			backends = append(backends, node.Client)
		case !l.only && l.selector[runLabel] == roleServer:
			backends = append(backends, node.Server)
		}
	}
	if l.name == changingService {
		backends = append(backends, env.Leaver)
	}
	return backends
}
