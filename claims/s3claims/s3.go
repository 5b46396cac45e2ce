// Package s3claims keeps claims in a bucket of S3-compatible storage.
package s3claims

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// marker is an object in the root of a [Store]: that it could be put says that
// there is a bucket that can be written to.
const marker = "longhaul-claims"

// maxTries bounds how often one request is sent; whoever needs the store tries
// again for longer.
const maxTries = 3

// Store is a [claims.Store] in a bucket. The bytes are in objects called
// <prefix>/<set>/<hash>.
type Store struct {
	client *minio.Client
	bucket string
	prefix string // "" or with a slash at its end
}

var _ claims.Store = (*Store)(nil)

// Open opens the store at a URL like
//
//	s3://bucket/prefix?region=eu-central-1
//	s3://bucket?endpoint=http://127.0.0.1:9000
//
// under its folder sub. The endpoint is Amazon's by default, and the region that
// of AWS_REGION. Credentials are found where Amazon's own tools find them, and
// nowhere else: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the files below
// ~/.aws with AWS_PROFILE, the role of the container or the machine. The error
// says what to do if the bucket cannot be written to.
func Open(ctx context.Context, rawURL, sub string) (*Store, error) {
	s, err := parse(rawURL, sub)
	if err != nil {
		return nil, err
	}
	_, err = s.client.PutObject(ctx, s.bucket, s.prefix+marker, strings.NewReader(""), 0, minio.PutObjectOptions{})
	if err == nil {
		return s, nil
	}
	remedy := "is the endpoint right and reachable?"
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchBucket:
		remedy = "create it first"
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch":
		remedy = "give credentials that may put, get, list and delete objects, by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine"
	case "AuthorizationHeaderMalformed", "PermanentRedirect":
		remedy = "give its region"
	}
	return nil, fmt.Errorf("the bucket %s of large arguments and results cannot be written to: %w (%s)", s.bucket, err, remedy)
}

// parse is the store at a URL, not yet asked for anything.
func parse(rawURL, sub string) (*Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.Fragment != "" {
		return nil, errors.New("the store of large arguments and results: want a URL like s3://bucket/prefix?endpoint=https://host&region=name")
	}
	if u.User != nil {
		return nil, errors.New("the store of large arguments and results: credentials do not belong into its URL; give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	query := u.Query()
	for name := range query {
		if name != "endpoint" && name != "region" {
			return nil, fmt.Errorf("the store of large arguments and results: %q in its URL: want endpoint or region", name)
		}
	}
	host, secure := "s3.amazonaws.com", true
	if endpoint := query.Get("endpoint"); endpoint != "" {
		if !strings.Contains(endpoint, "://") {
			endpoint = "https://" + endpoint
		}
		e, err := url.Parse(endpoint)
		if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || strings.Trim(e.Path, "/") != "" || e.User != nil {
			return nil, errors.New("the store of large arguments and results: its endpoint must be a host, or http://host or https://host")
		}
		host, secure = e.Host, e.Scheme == "https"
	}
	client, err := minio.New(host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
		Secure:     secure,
		Region:     cmp.Or(query.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		MaxRetries: maxTries,
	})
	if err != nil {
		return nil, fmt.Errorf("the store of large arguments and results: %w", err)
	}
	s := &Store{client: client, bucket: u.Host}
	for _, part := range []string{strings.Trim(u.Path, "/"), sub} {
		if part != "" {
			s.prefix += part + "/"
		}
	}
	return s, nil
}

// folder is where the objects of a set are.
func (s *Store) folder(set task.ClaimSet) (string, error) {
	name, err := claims.SetName(set)
	return s.prefix + name + "/", err
}

// Put implements [claims.Store].
func (s *Store) Put(ctx context.Context, set task.ClaimSet, data []byte) (task.Claim, error) {
	folder, err := s.folder(set)
	if err != nil {
		return task.Claim{}, err
	}
	c := claims.NewClaim(data)
	_, err = s.client.PutObject(ctx, s.bucket, folder+c.SHA256, bytes.NewReader(data), c.Size, minio.PutObjectOptions{
		ContentType:      "application/json",
		DisableMultipart: true,
	})
	return c, err
}

// Get implements [claims.Store].
func (s *Store) Get(ctx context.Context, set task.ClaimSet, c task.Claim) ([]byte, error) {
	folder, err := s.folder(set)
	if err != nil {
		return nil, err
	}
	if err := claims.CheckName(c); err != nil {
		return nil, err
	}
	data, err := s.read(ctx, folder+c.SHA256, c.Size)
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, fmt.Errorf("%w: s3://%s/%s%s", task.ErrClaimMissing, s.bucket, folder, c.SHA256)
	}
	if err != nil {
		return nil, err
	}
	if err := claims.Check(c, data); err != nil {
		return nil, err
	}
	return data, nil
}

// read reads an object of size bytes. If it has others, they are not its size.
func (s *Store) read(ctx context.Context, key string, size int64) ([]byte, error) {
	// One request: the client's own objects ask for their head first, in whose
	// answer a missing bucket looks like a missing object.
	object, info, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer object.Close()
	if info.Size != size {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", task.ErrClaimCorrupt, info.Size, size)
	}
	data := make([]byte, size)
	_, err = io.ReadFull(object, data)
	return data, err
}

// Delete implements [claims.Store].
func (s *Store) Delete(ctx context.Context, set task.ClaimSet) error {
	folder, err := s.folder(set)
	if err != nil {
		return nil // There is no such set.
	}
	for object := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: folder, Recursive: true}) {
		if object.Err != nil {
			return object.Err
		}
		if err := s.client.RemoveObject(ctx, s.bucket, object.Key, minio.RemoveObjectOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// Sets implements [claims.Store]. Objects are listed by their keys, so those of
// a set come one after the other.
func (s *Store) Sets(ctx context.Context) iter.Seq2[claims.StoredSet, error] {
	return func(yield func(claims.StoredSet, error) bool) {
		var last claims.StoredSet
		var name string
		for object := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true}) {
			if object.Err != nil {
				yield(claims.StoredSet{}, object.Err)
				return
			}
			folder, _, _ := strings.Cut(strings.TrimPrefix(object.Key, s.prefix), "/")
			set, ok := claims.ParseSetName(folder)
			if !ok {
				continue
			}
			if folder != name {
				if name != "" && !yield(last, nil) {
					return
				}
				name, last = folder, claims.StoredSet{ClaimSet: set}
			}
			if object.LastModified.After(last.StoredAt) {
				last.StoredAt = object.LastModified
			}
		}
		if name != "" {
			yield(last, nil)
		}
	}
}
