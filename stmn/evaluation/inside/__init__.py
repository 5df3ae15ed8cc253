"""A look inside a tied network: where its gates pass signals, its temporal filters, and its gradients."""
