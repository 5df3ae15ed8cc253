"""A look inside a tied network: where its gates let something through, what its filters became, and its gradients."""
