package crd

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
)

// Resource is one kind of object in the API server, T, of which L is a list.
type Resource[T, L any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Create(ctx context.Context, object T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, opts metav1.UpdateOptions) (T, error)
	UpdateStatus(ctx context.Context, object T, opts metav1.UpdateOptions) (T, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// Client asks an API server for wirelab's objects.
type Client struct {
	Nodes      Resource[*LabNode, *LabNodeList]
	Identities Resource[*LabIdentity, *LabIdentityList]
}

// NewClient returns a client of the server that cfg is about, which it does not change.
func NewClient(cfg *rest.Config) (*Client, error) {
	scheme := NewScheme()
	own := rest.CopyConfig(cfg)
	own.GroupVersion, own.APIPath = &GroupVersion, "/apis"
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON // all that such objects come in
	c, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make a client of %s for %s: %w", cfg.Host, GroupVersion, err)
	}
	codec := runtime.NewParameterCodec(scheme)
	return &Client{
		Nodes: gentype.NewClientWithList(LabNodes, c, codec, "",
			func() *LabNode { return &LabNode{} }, func() *LabNodeList { return &LabNodeList{} }),
		Identities: gentype.NewClientWithList(LabIdentities, c, codec, "",
			func() *LabIdentity { return &LabIdentity{} }, func() *LabIdentityList { return &LabIdentityList{} }),
	}, nil
}

// Explain says what to do about err, of a request for resource, where the API server does not know that there are such
// objects. Any other error, and nil, is returned as it is.
func Explain(resource string, err error) error {
	if !apierrors.IsNotFound(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return err
	}
	return fmt.Errorf("the API server has no %s.%s of version %s: the chart brings these CustomResourceDefinitions, helm upgrade puts them back: %w",
		resource, GroupVersion.Group, GroupVersion.Version, err)
}
