package verify

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// ThroughAPI returns a [PodExec] that goes through the API server's exec.
func ThroughAPI(kube kubernetes.Interface, config *rest.Config) PodExec {
	return apiExec{kube: kube, config: config}
}

type apiExec struct {
	kube   kubernetes.Interface
	config *rest.Config
}

func (e apiExec) ExecPod(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	request := e.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: argv, Stdin: stdin != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(e.config, "GET", request.URL().String())
	if err == nil {
		err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: stderr})
	}
	if err != nil {
		return fmt.Errorf("run %q in pod %s/%s: %w", argv[0], namespace, pod, err)
	}
	return nil
}
