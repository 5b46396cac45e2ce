package temporalserver

import (
	"context"
	"fmt"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/config"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

// CreateNamespace creates the namespace of o unless it exists. It writes to the database directly,
// which makes the namespace known to the server from the first moment. In spite of where it comes
// from, it is for a database of any kind whose plugin is linked.
func CreateNamespace(store *config.SQL, o enginereg.Options) error {
	namespace, err := sqliteschema.NewNamespaceConfig(ClusterName, o.Namespace, false, o.SearchAttributes)
	if err == nil {
		namespace.Detail.Config.Retention = durationpb.New(o.Retention)
		err = sqliteschema.CreateNamespaces(store, namespace)
	}
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", o.Namespace, err)
	}
	return nil
}

// RaiseRetention is for a namespace that was made with less. Addr is the server's.
func RaiseRetention(ctx context.Context, addr string, o enginereg.Options) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := workflowservice.NewWorkflowServiceClient(conn)
	n, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: o.Namespace})
	if err == nil && n.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() < o.Retention {
		_, err = service.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: o.Namespace,
			Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(o.Retention)},
		})
	}
	if err != nil {
		return fmt.Errorf("set the retention of namespace %s: %w", o.Namespace, err)
	}
	return nil
}
